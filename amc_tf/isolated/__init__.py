"""Packages that would hold the user's environment back, each in a folder of its own beside it.

In goes a name of `packages.PACKAGES`; out comes the folder that a process puts on its path, made by pip at first use.
"""
