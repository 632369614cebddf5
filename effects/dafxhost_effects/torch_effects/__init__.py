"""Effects in torch, with gradients to their settings. Workers import nothing from here."""
