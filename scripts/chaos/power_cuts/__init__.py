"""The rig of `power_cut` and `filesystems`: a drive whose every write is known, and what uses it."""
