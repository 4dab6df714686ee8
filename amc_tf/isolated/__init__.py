"""Packages that would restrict the user's environment, each installed into a folder of its own.

In goes a name of `packages.PACKAGES`. Out comes the folder that a process puts on its path; pip fills it at first use.
"""
