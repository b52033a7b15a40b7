"""The Singer streams. They connect the other packages, which do not depend on each other."""
