from .api import classify as classify
from .api import screen as screen
from .findings import Findings as Findings
from .screening.config import ScreeningConfig as ScreeningConfig
from .screening.screener import Screener as Screener
from .slides.slide import open_slide as open_slide
from .workflows.load import load_bundle as load_bundle
from .workflows.locate import list_bundles as list_bundles

__version__: str
