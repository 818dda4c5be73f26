//! Round trips and hostile bytes for every message and version.
