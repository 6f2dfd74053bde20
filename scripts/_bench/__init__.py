"""The figures that `scripts/bench` takes."""
