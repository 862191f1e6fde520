"""Programs that make what the package ships; importable from a checkout, not part of the wheel."""
