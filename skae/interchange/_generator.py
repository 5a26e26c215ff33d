from skae.interchange._drawing import Drawing


class GeneratorDrawing(Drawing):
    pass
