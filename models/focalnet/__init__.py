"""FocalNet as a closed-set classifier: variants, published checkpoints, export."""
