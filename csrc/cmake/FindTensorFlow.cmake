# SPDX-License-Identifier: Apache-2.0
# Finds the TensorFlow of the Python interpreter and defines the imported target
# TensorFlow::framework. All flags come from TensorFlow itself.
#
# TensorFlow_FOUND, TensorFlow_VERSION, TensorFlow_NOT_FOUND_REASON

# A marker separates the answer from whatever an import may print.
set(_query "
import json, tensorflow as tf
print('SSDOPS' + json.dumps({
    'version': tf.version.VERSION,
    'include': tf.sysconfig.get_include(),
    'compile': tf.sysconfig.get_compile_flags(),
    'link': tf.sysconfig.get_link_flags(),
}))")
execute_process(
  COMMAND ${CMAKE_COMMAND} -E env TF_CPP_MIN_LOG_LEVEL=3 ${Python_EXECUTABLE} -c "${_query}"
  OUTPUT_VARIABLE _answer
  ERROR_VARIABLE _error
  RESULT_VARIABLE _result)
if(_result EQUAL 0 AND _answer MATCHES "SSDOPS({.*})")
  set(_json "${CMAKE_MATCH_1}")
  string(JSON TensorFlow_VERSION GET "${_json}" version)
  string(JSON _include GET "${_json}" include)
  foreach(_kind IN ITEMS compile link)
    set(_${_kind}_flags)
    string(JSON _count LENGTH "${_json}" ${_kind})
    math(EXPR _last "${_count} - 1")
    foreach(_i RANGE ${_last})
      string(JSON _flag GET "${_json}" ${_kind} ${_i})
      list(APPEND _${_kind}_flags "${_flag}")
    endforeach()
  endforeach()
  # The include folder becomes a system one, so that our warnings stay ours; the
  # language standard is set by us (at least the one that TensorFlow asks for).
  list(FILTER _compile_flags EXCLUDE REGEX "^(-I|-?-std=)")
  if(NOT TARGET TensorFlow::framework)
    add_library(TensorFlow::framework INTERFACE IMPORTED)
    target_include_directories(TensorFlow::framework SYSTEM INTERFACE "${_include}")
    target_compile_options(TensorFlow::framework INTERFACE ${_compile_flags})
    # As libraries, not options: they must follow the objects on the command line.
    target_link_libraries(TensorFlow::framework INTERFACE ${_link_flags})
  endif()
  set(TensorFlow_FOUND TRUE)
else()
  set(TensorFlow_FOUND FALSE)
  string(STRIP "${_error}" _error)
  string(REGEX REPLACE ".*\n" "" _last_line "${_error}")
  set(TensorFlow_NOT_FOUND_REASON
      "${Python_EXECUTABLE} cannot import tensorflow (${_last_line})")
endif()
