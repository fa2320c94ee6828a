# SPDX-License-Identifier: Apache-2.0
# The state of the tri-state components, and the report of it.

include(CheckLanguage)

# Decide that a component is built; `reason` says with what.
macro(ssdops_built component reason)
  set_property(GLOBAL PROPERTY SSDOPS_${component}_STATUS built)
  set_property(GLOBAL PROPERTY SSDOPS_${component}_REASON "${reason}")
endmacro()

# Decide that a component is not built: an error if it is ON, a note if AUTO.
function(ssdops_skip component reason)
  if(SSDOPS_WITH_${component} STREQUAL ON)
    message(FATAL_ERROR "SSDOPS_WITH_${component} is ON, but ${reason}")
  endif()
  if(SSDOPS_WITH_${component} STREQUAL OFF)
    set_property(GLOBAL PROPERTY SSDOPS_${component}_STATUS off)
    set_property(GLOBAL PROPERTY SSDOPS_${component}_REASON "switched off")
  else()
    set_property(GLOBAL PROPERTY SSDOPS_${component}_STATUS skipped)
    set_property(GLOBAL PROPERTY SSDOPS_${component}_REASON "${reason}")
  endif()
endfunction()

# Set `result` to whether the component is wanted and not yet decided.
function(ssdops_wanted component result)
  set(${result} ON PARENT_SCOPE)
  if(SSDOPS_WITH_${component} STREQUAL OFF)
    ssdops_skip(${component} "switched off")
    set(${result} OFF PARENT_SCOPE)
  endif()
endfunction()

function(ssdops_print_summary)
  message(STATUS "ssdops ${SSDOPS_VERSION}:")
  foreach(component IN ITEMS TENSORFLOW NUMPY CUDA XLA)
    get_property(status GLOBAL PROPERTY SSDOPS_${component}_STATUS)
    get_property(reason GLOBAL PROPERTY SSDOPS_${component}_REASON)
    message(STATUS "  SSDOPS_WITH_${component}: ${status} (${reason})")
  endforeach()
endfunction()
