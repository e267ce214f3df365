"""The process that runs programs over PyTorch networks. Gateways never import this."""
