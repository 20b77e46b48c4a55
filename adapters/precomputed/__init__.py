"""Models that are files: saliency maps, or boxes, that were made elsewhere."""
