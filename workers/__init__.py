"""Where it runs: processes, jobs, the command line and the adapters."""
