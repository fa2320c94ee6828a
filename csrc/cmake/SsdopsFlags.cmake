# SPDX-License-Identifier: Apache-2.0
# Compiler and linker flags of every target, and ssdops_add_op().

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")

add_library(ssdops_flags INTERFACE)
# Fused multiply-add would change IoUs by some units in the last place, depending
# on the vector width: results must not depend on flags or machine.
target_compile_options(ssdops_flags INTERFACE -ffp-contract=off -Wall -Wextra)
target_include_directories(
  ssdops_flags INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/include)
if(SSDOPS_WERROR)
  target_compile_options(ssdops_flags INTERFACE -Werror)
endif()
if(NOT SSDOPS_SANITIZE STREQUAL OFF)
  target_compile_options(
    ssdops_flags INTERFACE -fsanitize=${SSDOPS_SANITIZE} -fno-sanitize-recover=all
                           -fno-omit-frame-pointer -g)
  target_link_options(ssdops_flags INTERFACE -fsanitize=${SSDOPS_SANITIZE})
endif()
# What the libraries link from archives stays inside them.
target_link_options(ssdops_flags INTERFACE -Wl,--exclude-libs,ALL)

# ssdops_add_op(<stem> [CUDA])
#
# Registers the files of one op, all with the same stem: cpu/<stem>.cc in the kernel
# library, tensorflow/<stem>_op.cc, python/bind_<stem>.cc and, with CUDA,
# cuda/<stem>.cu. The folder tells the layer; each layer is compiled if its component
# is built.
function(ssdops_add_op stem)
  cmake_parse_arguments(PARSE_ARGV 1 op "CUDA" "" "")
  target_sources(ssdops_kernels PRIVATE cpu/${stem}.cc)
  if(TARGET _ssdops_tf)
    target_sources(_ssdops_tf PRIVATE tensorflow/${stem}_op.cc)
  endif()
  if(TARGET _native)
    target_sources(_native PRIVATE python/bind_${stem}.cc)
  endif()
  if(op_CUDA AND TARGET ssdops_cuda_kernels)
    target_sources(ssdops_cuda_kernels PRIVATE cuda/${stem}.cu)
  endif()
endfunction()
