"""Training, from a config to model folders."""

import os

# Before PyTorch loads its OpenMP library, which reads this once. Its threads wait for each other by spinning, so two trainings
# on two cores made 24 s of audio per second together; asleep while they wait, 160 (docs/LOG.md)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
