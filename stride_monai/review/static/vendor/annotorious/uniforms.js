// Sets the uniforms of PixiJS's shaders without generating code, so that the page needs no 'unsafe-eval' in its content
// security policy. PixiJS 7, which Annotorious contains, writes a function for each group of uniforms and compiles it;
// here the same choice, by type and kind of value, gives a list of closures. changes.json says where it is called.
"use strict";

globalThis.PixiUniforms = (() => {
  const single = {
    float: (gl, at, v) => gl.uniform1f(at, v),
    int: (gl, at, v) => gl.uniform1i(at, v),
    uint: (gl, at, v) => gl.uniform1ui(at, v),
    bool: (gl, at, v) => gl.uniform1i(at, v),
    sampler2D: (gl, at, v) => gl.uniform1i(at, v),
    samplerCube: (gl, at, v) => gl.uniform1i(at, v),
    sampler2DArray: (gl, at, v) => gl.uniform1i(at, v),
  };
  const array = {
    float: (gl, at, v) => gl.uniform1fv(at, v),
    vec2: (gl, at, v) => gl.uniform2fv(at, v),
    vec3: (gl, at, v) => gl.uniform3fv(at, v),
    vec4: (gl, at, v) => gl.uniform4fv(at, v),
    mat2: (gl, at, v) => gl.uniformMatrix2fv(at, false, v),
    mat3: (gl, at, v) => gl.uniformMatrix3fv(at, false, v),
    mat4: (gl, at, v) => gl.uniformMatrix4fv(at, false, v),
    int: (gl, at, v) => gl.uniform1iv(at, v),
    ivec2: (gl, at, v) => gl.uniform2iv(at, v),
    ivec3: (gl, at, v) => gl.uniform3iv(at, v),
    ivec4: (gl, at, v) => gl.uniform4iv(at, v),
    uint: (gl, at, v) => gl.uniform1uiv(at, v),
    uvec2: (gl, at, v) => gl.uniform2uiv(at, v),
    uvec3: (gl, at, v) => gl.uniform3uiv(at, v),
    uvec4: (gl, at, v) => gl.uniform4uiv(at, v),
    bool: (gl, at, v) => gl.uniform1iv(at, v),
    bvec2: (gl, at, v) => gl.uniform2iv(at, v),
    bvec3: (gl, at, v) => gl.uniform3iv(at, v),
    bvec4: (gl, at, v) => gl.uniform4iv(at, v),
    sampler2D: (gl, at, v) => gl.uniform1iv(at, v),
    samplerCube: (gl, at, v) => gl.uniform1iv(at, v),
    sampler2DArray: (gl, at, v) => gl.uniform1iv(at, v),
  };

  const has = (value, name) => value != null && value[name] !== undefined;

  // Values that are objects of PixiJS: matrices, points, rectangles, colors.
  function ofObject(type, value) {
    if (type === "mat3" && has(value, "a")) return (gl, at, v) => gl.uniformMatrix3fv(at, false, v.toArray(true));
    if (type === "vec2" && has(value, "x")) return (gl, at, v) => gl.uniform2f(at, v.x, v.y);
    if (type === "vec4" && has(value, "width")) return (gl, at, v) => gl.uniform4f(at, v.x, v.y, v.width, v.height);
    if (type === "vec4" && has(value, "red")) return (gl, at, v) => gl.uniform4f(at, v.red, v.green, v.blue, v.alpha);
    if (type === "vec3" && has(value, "red")) return (gl, at, v) => gl.uniform3f(at, v.red, v.green, v.blue);
    return null;
  }

  function setterOf(name, data, value) {
    const one = data.size === 1 && !data.isArray;
    if (one && data.type.startsWith("sampler") && (value == null || has(value, "castToBaseTexture"))) {
      return (ud, uv, renderer, sync) => {
        const unit = sync.textureCount++;
        renderer.texture.bind(uv[name], unit);
        renderer.gl.uniform1i(ud[name].location, unit);
      };
    }
    const set = (one && (ofObject(data.type, value) || single[data.type])) || array[data.type];
    if (!set) throw new Error(`uniform ${name} is of the unknown type ${data.type}`);
    return (ud, uv, renderer) => set(renderer.gl, ud[name].location, uv[name]);
  }

  function sync(group, uniformData) {
    const setters = [];
    for (const [name, value] of Object.entries(group.uniforms)) {
      if (uniformData[name]) setters.push(setterOf(name, uniformData[name], value));
      else if (value?.group === true && value.ubo) unsupported();
      else if (value?.group === true) setters.push((ud, uv, renderer, s) => renderer.shader.syncUniformGroup(uv[name], s));
    }
    return (ud, uv, renderer, s) => setters.forEach((set) => set(ud, uv, renderer, s));
  }

  function unsupported() {
    throw new Error("uniform buffers are not supported here");
  }

  return { sync, unsupported };
})();
