"""Joint maximum-likelihood fit of all emitters of a frame: `refinement.Refiner` leads through it."""
