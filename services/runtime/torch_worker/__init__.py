"""Models that need gradients or loops over a network: the gateway's side of the process that runs them.

``process`` is the other side, and imports PyTorch; nothing here does.
"""
