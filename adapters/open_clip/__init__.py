"""Any image-text model of the open_clip library: CLIP of OpenAI and LAION, SigLIP, BiomedCLIP, CheXzero and more."""
