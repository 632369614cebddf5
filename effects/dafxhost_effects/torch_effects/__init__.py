"""Effects in torch, with gradients to their settings. Workers, which hold no torch, import nothing from here."""
