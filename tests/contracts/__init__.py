"""One suite of tests for each plug point: whoever adds to it subclasses the suite."""
