"""The reference pages in docs/, written from the code: `python -m tests.docs.reference`."""
