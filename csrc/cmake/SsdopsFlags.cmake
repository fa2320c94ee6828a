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
# The other two let loops with divisions be vectorised; no result depends on them.
target_compile_options(
  ssdops_flags INTERFACE -ffp-contract=off -fno-math-errno -fno-trapping-math -Wall
                         -Wextra)
target_include_directories(
  ssdops_flags INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/include)
if(SSDOPS_WERROR)
  target_compile_options(ssdops_flags INTERFACE -Werror)
endif()
if(NOT SSDOPS_SANITIZE STREQUAL OFF)
  # Instrumented vector code takes minutes per file at higher levels.
  target_compile_options(
    ssdops_flags INTERFACE -fsanitize=${SSDOPS_SANITIZE} -fno-sanitize-recover=all
                           -fno-omit-frame-pointer -g -O1)
  target_link_options(ssdops_flags INTERFACE -fsanitize=${SSDOPS_SANITIZE})
endif()
# What the libraries link from archives stays inside them.
target_link_options(ssdops_flags INTERFACE -Wl,--exclude-libs,ALL)

# The instruction sets that the files cpu/*_simd.cc are compiled for. One is enough
# beside emulated CUDA kernels, which take long enough.
set(SSDOPS_ISAS baseline)
set(SSDOPS_ISA_FLAGS_baseline)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$" AND NOT SSDOPS_CUDA_EMULATOR)
  list(APPEND SSDOPS_ISAS avx2 avx512)
  set(SSDOPS_ISA_FLAGS_avx2 -march=x86-64-v3)
  set(SSDOPS_ISA_FLAGS_avx512 -march=x86-64-v4)
  target_compile_definitions(ssdops_flags INTERFACE SSDOPS_ISA_VARIANTS)
endif()

# One object library per instruction set, SSDOPS_SIMD_LIBRARIES.
function(ssdops_add_simd_libraries)
  set(libraries)
  foreach(isa IN LISTS SSDOPS_ISAS)
    add_library(ssdops_simd_${isa} OBJECT)
    target_compile_definitions(ssdops_simd_${isa} PRIVATE SSDOPS_ISA=${isa})
    # No vector crosses the border of a file: how it would be passed is no matter.
    target_compile_options(ssdops_simd_${isa} PRIVATE ${SSDOPS_ISA_FLAGS_${isa}}
                           -Wno-psabi)
    target_link_libraries(ssdops_simd_${isa} PUBLIC ssdops_flags)
    list(APPEND libraries ssdops_simd_${isa})
  endforeach()
  set(SSDOPS_SIMD_LIBRARIES ${libraries} PARENT_SCOPE)
endfunction()

# ssdops_add_op(<stem> [SIMD] [CUDA])
#
# Registers the files of one op, all with the same stem: cpu/<stem>.cc in the kernel
# library, tensorflow/<stem>_op.cc, python/bind_<stem>.cc and, with SIMD,
# cpu/<stem>_simd.cc for every instruction set; with CUDA, cuda/<stem>.cu. The folder
# tells the layer; each layer is compiled if its component is built.
function(ssdops_add_op stem)
  cmake_parse_arguments(PARSE_ARGV 1 op "SIMD;CUDA" "" "")
  ssdops_add_kernel(${stem} ${ARGN})
  if(TARGET _ssdops_tf)
    target_sources(_ssdops_tf PRIVATE tensorflow/${stem}_op.cc)
  endif()
  if(TARGET _native)
    target_sources(_native PRIVATE python/bind_${stem}.cc)
  endif()
endfunction()

# ssdops_add_kernel(<stem> [SIMD] [CUDA])
#
# The kernel files alone, for what several ops share.
function(ssdops_add_kernel stem)
  cmake_parse_arguments(PARSE_ARGV 1 op "SIMD;CUDA" "" "")
  target_sources(ssdops_kernels PRIVATE cpu/${stem}.cc)
  if(op_SIMD)
    foreach(isa IN LISTS SSDOPS_ISAS)
      target_sources(ssdops_simd_${isa} PRIVATE cpu/${stem}_simd.cc)
    endforeach()
  endif()
  if(op_CUDA)
    ssdops_add_cuda(${stem})
  endif()
endfunction()

# ssdops_add_cuda(<stem>): the CUDA kernels alone.
function(ssdops_add_cuda stem)
  if(TARGET ssdops_cuda_kernels)
    target_sources(ssdops_cuda_kernels PRIVATE cuda/${stem}.cu)
    if(SSDOPS_CUDA_EMULATOR)
      set_source_files_properties(cuda/${stem}.cu PROPERTIES LANGUAGE CXX COMPILE_OPTIONS
                                                             "-xc++")
    endif()
  endif()
endfunction()
