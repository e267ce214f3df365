"""RegionCLIP (arXiv 2112.09106): regions and texts in one space, and a detector of anything that can be named."""
