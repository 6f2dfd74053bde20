"""The parts that adapters of sandboxes share."""
