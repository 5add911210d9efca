import pytest

from mtl_lightning.config.classes import concrete_subclasses, resolve_class
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, Task


def refused(*arguments: object) -> str:
    with pytest.raises(UserError) as error:
        resolve_class(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_one_s_own_module_that_fails_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    message = refused("broken.Zzz", (Task,), "tasks.a.class_path")
    assert message == 'tasks.a.class_path: cannot import "broken.Zzz": division by zero'


def test_a_short_name_that_several_classes_have():
    base = type("Base", (), {})
    classes = [type("Flip", (base,), {"__module__": name}) for name in ("one._hidden", "two")]
    message = refused("Flip", (base,), "key")
    assert message == 'key: several are called "Flip", write the whole path: two.Flip, one.Flip'
    assert classes  # classes that nothing refers to are forgotten


def test_abstract_classes_have_no_short_name():
    found = concrete_subclasses([Task])
    assert {"Classification", "Regression"} <= set(found)
    assert "Task" not in found
    assert found["Classification"] == [Classification]
