"""The tour of the demo: a list of steps, each with what is done, what is waited for and what is said."""
