"""One outside system a file, and an in-memory twin of every port."""
