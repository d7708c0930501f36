"""What we decide: the pure core. It knows no Redis, no RQ, no HTTP and never asks for the time."""
