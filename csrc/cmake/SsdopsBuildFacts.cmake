# SPDX-License-Identifier: Apache-2.0
# Writes _build_facts.json beside the installed libraries: what was built, with
# what, and the checksums by which the loader knows the libraries again.

set(_components "{}")
foreach(component IN ITEMS TENSORFLOW NUMPY CUDA XLA)
  get_property(_status GLOBAL PROPERTY SSDOPS_${component}_STATUS)
  get_property(_reason GLOBAL PROPERTY SSDOPS_${component}_REASON)
  string(REPLACE "\\" "/" _reason "${_reason}")
  string(REPLACE "\"" "'" _reason "${_reason}")
  string(TOLOWER ${component} _name)
  string(JSON _components SET "${_components}" ${_name}
         "{\"status\": \"${_status}\", \"reason\": \"${_reason}\"}")
endforeach()

set(_facts "{}")
string(JSON _facts SET "${_facts}" components "${_components}")
string(JSON _facts SET "${_facts}" libraries "{}")
foreach(pair IN ITEMS
    "ssdops_version|${SSDOPS_VERSION}"
    "tensorflow_version|${TensorFlow_VERSION}"
    "python_version|${Python_VERSION}"
    "pybind11_version|${pybind11_VERSION}"
    "cuda_version|${SSDOPS_CUDA_VERSION}"
    "cmake_version|${CMAKE_VERSION}"
    "compiler|${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
    "build_type|${CMAKE_BUILD_TYPE}"
    "sanitize|${SSDOPS_SANITIZE}"
    "system|${CMAKE_HOST_SYSTEM_NAME} ${CMAKE_HOST_SYSTEM_PROCESSOR}")
  string(FIND "${pair}" "|" _bar)
  string(SUBSTRING "${pair}" 0 ${_bar} _key)
  math(EXPR _bar "${_bar} + 1")
  string(SUBSTRING "${pair}" ${_bar} -1 _value)
  string(STRIP "${_value}" _value)
  string(JSON _facts SET "${_facts}" ${_key} "\"${_value}\"")
endforeach()
file(WRITE ${CMAKE_BINARY_DIR}/build_facts.in.json "${_facts}")

set(_libraries)
foreach(target IN LISTS built_targets)
  list(APPEND _libraries "$<TARGET_FILE_NAME:${target}>")
endforeach()
# At install time the libraries are final: add their checksums.
install(CODE "
  file(READ \"${CMAKE_BINARY_DIR}/build_facts.in.json\" facts)
  foreach(library IN ITEMS ${_libraries})
    file(SHA256 \"\${CMAKE_INSTALL_PREFIX}/\${library}\" checksum)
    string(JSON facts SET \"\${facts}\" libraries \"\${library}\" \"\\\"\${checksum}\\\"\")
  endforeach()
  file(WRITE \"\${CMAKE_INSTALL_PREFIX}/_build_facts.json\" \"\${facts}\\n\")
")
