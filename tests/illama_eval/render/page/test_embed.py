from __future__ import annotations

import json

from illama_eval.render.page.embed import embed_data


def test_data_cannot_end_its_element():
    text = embed_data({"</script><!--": ["&lt;", "]]>"]})
    assert not set(text) & set("<>&")
    assert json.loads(text) == {"</script><!--": ["&lt;", "]]>"]}
