"""The method itself: torch only. No flag, no configuration, no file, no logging."""
