"""Training, from a config to model folders."""

import os

# Before PyTorch loads its OpenMP library, which reads these once. Threads that spin for long while they wait for each other
# take the cores from a second training; threads that sleep at once make a training alone a fifth slower (docs/LOG.md).
# GNU's library spins for so many rounds, about a tenth of a millisecond; other libraries sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
