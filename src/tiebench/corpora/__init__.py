"""Named text, its vocabulary and its token streams. Nothing here needs torch."""
