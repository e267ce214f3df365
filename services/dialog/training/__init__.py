"""How a bot learns: heads on cached features of turns. Only workers import this: it needs PyTorch."""
