//! What compiles the shaders of D3D12.

use std::sync::OnceLock;

/// A compiler of HLSL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compiler {
    /// `dxcompiler.dll`, which has shader model 6 and with it subgroups.
    Dxc,
    /// `d3dcompiler_47.dll`, which is part of Windows and ends at shader model 5.1.
    Fxc,
}

impl Compiler {
    /// The better one of those that work.
    ///
    /// wgpu's own choice goes without D3D12 where `dxcompiler.dll` loads and then fails.
    fn best(works: impl Fn(Self) -> bool) -> Self {
        if works(Self::Dxc) {
            Self::Dxc
        } else {
            Self::Fxc
        }
    }

    /// The one of this machine, tried once.
    pub(super) fn here() -> Self {
        static HERE: OnceLock<Compiler> = OnceLock::new();
        let works = |compiler: Self| {
            let mut desc = ::wgpu::InstanceDescriptor::new_without_display_handle();
            desc.flags = ::wgpu::InstanceFlags::empty();
            desc.backends = ::wgpu::Backends::DX12;
            desc.backend_options.dx12.shader_compiler = compiler.option();
            let found = ::wgpu::Instance::new(desc).enumerate_adapters(::wgpu::Backends::DX12);
            !pollster::block_on(found).is_empty()
        };
        *HERE.get_or_init(|| Self::best(|compiler| cfg!(windows) && works(compiler)))
    }

    pub(super) fn option(self) -> ::wgpu::Dx12Compiler {
        match self {
            Self::Dxc => ::wgpu::Dx12Compiler::default_dynamic_dxc(),
            Self::Fxc => ::wgpu::Dx12Compiler::Fxc,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dxc => "DXC",
            Self::Fxc => "FXC",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d3d12_stays_where_dxc_is_missing_or_broken() {
        assert_eq!(Compiler::best(|_| true), Compiler::Dxc);
        assert_eq!(Compiler::best(|c| c == Compiler::Fxc), Compiler::Fxc);
        assert_eq!(Compiler::best(|_| false), Compiler::Fxc);
    }
}
