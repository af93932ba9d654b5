"""Tidegate; the modules of its data path are the compiled ones from here on, where there are any."""

from gateway import native

native.use()
