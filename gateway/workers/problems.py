"""What can be wrong with workers, apart from what runs them: one process alone loads nothing of that."""


class StartError(Exception):
    """No worker ever became ready; the message says what ended."""
