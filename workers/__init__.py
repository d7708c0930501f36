"""Where it runs: processes, jobs, the command line and the adapters."""

import os

# numpy's library starts a thread for each core of the machine when it is loaded. We have no work for them, a process
# that forks must have none, and on a machine of many cores they alone would reach a container's bound of processes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
