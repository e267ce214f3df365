"""GLIP, small, for drawings: scenes of pictographs, a FocalNet trunk, a head with deep fusion, and their measures."""
