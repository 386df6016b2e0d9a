"""Joint maximum-likelihood fit of all emitters of a frame; the entry point is `refiner.Refiner`."""
