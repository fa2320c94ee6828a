# SPDX-License-Identifier: Apache-2.0
# The library by which XLA compiles the ops. Its interfaces are not stable ones, so that
# it is tried out whether they are there.

include(CheckCXXSourceCompiles)

macro(ssdops_add_xla_library)
  ssdops_wanted(XLA want_xla)
  if(want_xla)
    ssdops_find_xla()
    if(SSDOPS_XLA_WORKS)
      add_library(_ssdops_xla MODULE xla/custom_call_op.cc xla/run_kernel.cc)
      target_link_libraries(_ssdops_xla PRIVATE ssdops_flags TensorFlow::xla)
      set(exports ${CMAKE_CURRENT_SOURCE_DIR}/tensorflow/exports.map)
      target_link_options(_ssdops_xla PRIVATE -Wl,-z,defs
                          -Wl,--version-script=${exports})
      set_target_properties(_ssdops_xla PROPERTIES PREFIX "" LINK_DEPENDS ${exports})
      ssdops_built(XLA "TensorFlow ${TensorFlow_VERSION}, on the CPU")
      list(APPEND built_targets _ssdops_xla)
    else()
      ssdops_skip(XLA "TensorFlow ${TensorFlow_VERSION} lacks what custom calls need")
    endif()
  endif()
endmacro()

# Sets SSDOPS_XLA_WORKS, and defines TensorFlow::xla.
macro(ssdops_find_xla)
  get_target_property(include TensorFlow::framework INTERFACE_INCLUDE_DIRECTORIES)
  add_library(TensorFlow::xla INTERFACE IMPORTED)
  # Headers of XLA include these two without their folders.
  target_include_directories(
    TensorFlow::xla SYSTEM INTERFACE ${include}/external/highwayhash
                                     ${include}/external/farmhash_archive/src)
  target_link_libraries(TensorFlow::xla INTERFACE TensorFlow::framework
                                                  -l:libtensorflow_cc.so.2)
  set(CMAKE_REQUIRED_LIBRARIES TensorFlow::xla)
  set(CMAKE_REQUIRED_QUIET ON)
  # What is not parsed twice: the larger header takes a minute.
  check_cxx_source_compiles(
    "#if !__has_include(\"tensorflow/compiler/tf2xla/xla_op_kernel.h\")
#error
#endif
#include \"xla/ffi/api/ffi.h\"
namespace xla::ffi { const XLA_FFI_Api* GetXlaFfiApi(); }
int main() { return xla::ffi::GetXlaFfiApi() == nullptr; }"
    SSDOPS_XLA_WORKS)
  unset(CMAKE_REQUIRED_LIBRARIES)
  unset(CMAKE_REQUIRED_QUIET)
endmacro()
