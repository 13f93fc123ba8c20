from .pretraining import STATE as STATE
from .pretraining import PretrainRecipe as PretrainRecipe
from .recipe import Recipe as Recipe
from .schema import text as text
from .validate import Loaded as Loaded
from .validate import load as load
from .validate import recipe_class as recipe_class
