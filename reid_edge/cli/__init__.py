"""What ``reid-edge`` can do, one file a command.

A command's file has ``HELP``, ``add_arguments(parser)`` and ``run(options)``, which returns the
exit code. What is slow to import is imported when the command runs.
"""
