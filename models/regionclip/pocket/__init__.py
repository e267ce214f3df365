"""RegionCLIP, small, for drawings: proposals and region features over the trunk of the small GLIP."""
