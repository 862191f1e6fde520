(() => {
  const faults = [], said = element => element.textContent.trim().replace(/\s+/g, " ").slice(0, 40)
  const colour = text => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number)
  const over = (top, below) => { const part = top.length > 3 ? top[3] : 1
    return [0, 1, 2].map(i => top[i] * part + below[i] * (1 - part)) }
  const light = rgb => { const [r, g, b] = rgb.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b }
  const ground = element => { const layers = []
    for (let e = element; e; e = e.parentElement) layers.push(colour(getComputedStyle(e).backgroundColor))
    return layers.reduceRight((below, top) => over(top, below), [255, 255, 255]) }

  if (document.documentElement.scrollWidth > innerWidth)
    faults.push(`the page is ${document.documentElement.scrollWidth} wide in a window of ${innerWidth}`)
  for (const image of document.images)
    if (!image.naturalWidth || image.getBoundingClientRect().width < 20) faults.push(`no picture: ${image.alt}`)
  for (const element of document.querySelectorAll("body *")) {
    const style = getComputedStyle(element), box = element.getBoundingClientRect()
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())
    if (!own || !box.width || style.visibility !== "visible" || ["TITLE", "STYLE"].includes(element.tagName.toUpperCase())) continue
    const drawn = element.ownerSVGElement, below = ground(element)
    let ink = colour(drawn ? style.fill : style.color)
    if (drawn) {
      let seen = 1
      for (let e = element; e !== drawn; e = e.parentElement) seen *= Number(getComputedStyle(e).opacity)
      ink = [...ink.slice(0, 3), seen]
      const frame = drawn.getBoundingClientRect()
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        faults.push(`cut off: ${said(element)}`)
      const scale = frame.width / drawn.viewBox.baseVal.width
      if (parseFloat(style.fontSize) * scale < 8) faults.push(`too small: ${said(element)}`)
    }
    const lights = [light(over(ink, below)), light(below)].sort((a, b) => a - b)
    const contrast = (lights[1] + 0.05) / (lights[0] + 0.05)
    if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(1)}: ${said(element)}`)
  }
  return faults
})()
