"""Reports: what is measured of a run, pages, pictures and the folder that holds them."""
