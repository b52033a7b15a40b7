"""What Singer sees: the streams. They join the wings, which do not know each other."""
