"""Images to learn from: `ddpm.data.load.load_images` reads them, `ImageData` holds them."""
