"""What differs between operating systems or between two processes: files, locks, cores, child processes, the cache.

In go plain paths, bytes and commands; out come files that are complete or absent, and processes that end with their
parent. Nothing here knows about networks.
"""
