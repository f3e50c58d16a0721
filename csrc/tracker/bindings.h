// The classes of this folder for Python: `TrackerModel` and `TrackerTarget`.
#pragma once

#include <pybind11/pybind11.h>

namespace chase_fast::tracker {

void bind(pybind11::module_& module);

}  // namespace chase_fast::tracker
