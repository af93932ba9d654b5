"""Which open descriptors outlive the start of another program."""

import os


def hand_on(descriptor: int) -> int:
    """Let the next program in this process have a descriptor; return it."""
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - so it is called
    return descriptor


def keep(descriptor: int) -> int:
    """Let no program that this process starts have a descriptor; return it."""
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - as above
    return descriptor
