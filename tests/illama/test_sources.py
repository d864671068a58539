from __future__ import annotations

import numpy as np
import pytest

from illama.sources import SourceError, open_source


def test_a_class_folder_set_with_another_class_count_than_the_head_is_refused():
    with pytest.raises(SourceError, match="10 classes, the head 11"):
        open_source("demo").for_head(11)
